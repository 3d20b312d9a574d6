{{- define "leeway.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The labels that select a component's pods: (dict "root" $ "component" NAME). */}}
{{- define "leeway.selector" -}}
app.kubernetes.io/name: leeway
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "leeway.labels" -}}
{{ include "leeway.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "leeway.metadata" -}}
name: {{ include "leeway.name" .root }}-{{ .name | default .component }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "leeway.labels" . | nindent 2 }}
{{- end }}

{{/* Where everything about Redis is that a pod must not have in its environment: addresses with passwords, users. */}}
{{- define "leeway.redisSecret" -}}
{{ .Values.redis.secret | default (printf "%s-redis" (include "leeway.name" .)) }}
{{- end }}

{{- define "leeway.tlsSecret" -}}
{{- if .Values.redis.tls.secret }}{{ .Values.redis.tls.secret }}
{{- else if and .Values.redis.enabled .Values.redis.tls.enabled }}{{ include "leeway.name" . }}-redis-tls
{{- end }}
{{- end }}

{{- define "leeway.redisHost" -}}
{{ include "leeway.name" . }}-redis.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "leeway.runsClaim" -}}
{{ .Values.runs.claim | default (printf "%s-runs" (include "leeway.name" .)) }}
{{- end }}

{{- define "leeway.filesConfigMap" -}}
{{ .Values.run.filesConfigMap | default (printf "%s-files" (include "leeway.name" .)) }}
{{- end }}

{{/* A volume that is a claim or, without one, is gone with its pod. */}}
{{- define "leeway.claimed" -}}
{{- if . }}
persistentVolumeClaim:
  claimName: {{ . }}
{{- else }}
emptyDir: {}
{{- end }}
{{- end }}

{{/* Of every container: no rights, and no way to get any. */}}
{{- define "leeway.rightless" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "leeway.alive" -}}
exec:
  command: [/bin/sh, /etc/leeway/pod/alive.sh]
{{- end }}

{{/* Where its pods may be placed, and what starts them: the values that every component has. */}}
{{- define "leeway.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* A learner, rollout or verifier pod: (dict "root" $ "component" NAME "command" LIST). */}}
{{- define "leeway.rolePod" -}}
{{- $values := index .root.Values .component }}
{{- $graded := and .root.Values.sandbox.enabled (ne .component "learner") }}
{{- $weights := and .root.Values.weights.enabled (ne .component "verifier") }}
metadata:
  labels:
    {{- include "leeway.labels" . | nindent 4 }}
  annotations:
    leeway/files: {{ .root.Values.run.files | toJson | sha256sum | trunc 16 | quote }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  automountServiceAccountToken: false
  {{- with .root.Values.serviceAccountName }}
  serviceAccountName: {{ . }}
  {{- end }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with $values.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- include "leeway.placement" $values | nindent 2 }}
  terminationGracePeriodSeconds: {{ add .root.Values.run.drainSeconds 30 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: {{ .root.Values.user }}
    runAsGroup: {{ .root.Values.user }}
    fsGroup: {{ .root.Values.user }}
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: {{ .component }}
      image: {{ $values.image | quote }}
      imagePullPolicy: {{ .root.Values.imagePullPolicy }}
      command: [/bin/sh, /etc/leeway/pod/role.sh]
      args: {{ .command | toJson }}
      workingDir: /work
      env:
        - name: LEEWAY_REDIS_URL
          value: "@/etc/leeway/redis/url"
        - name: LEEWAY_METRICS_HOST
          value: 0.0.0.0
        - name: LEEWAY_METRICS_PORT
          value: "9464"
        - name: OMP_NUM_THREADS
          value: {{ $values.threads | quote }}
        - name: TOKENIZERS_PARALLELISM
          value: "false"
        {{- if eq .component "learner" }}
        - name: LEARNER_NODE
          valueFrom:
            fieldRef:
              fieldPath: metadata.labels['apps.kubernetes.io/pod-index']
        {{- end }}
        {{- with $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: metrics
          containerPort: 9464
      startupProbe: # ten minutes, until the run has been created and the role answers
        {{- include "leeway.alive" . | nindent 8 }}
        periodSeconds: 10
        timeoutSeconds: 10
        failureThreshold: 60
      readinessProbe:
        {{- include "leeway.alive" . | nindent 8 }}
        periodSeconds: 30
        timeoutSeconds: 10
      livenessProbe: # ten minutes without an answer; whether the run moves, leeway status says
        {{- include "leeway.alive" . | nindent 8 }}
        periodSeconds: 30
        timeoutSeconds: 10
        failureThreshold: 20
      securityContext:
        {{- include "leeway.rightless" . | nindent 8 }}
        {{- if $graded }}
        seccompProfile:
          type: Localhost
          localhostProfile: {{ .root.Values.sandbox.profile }}
        {{- if .root.Values.sandbox.unconfineAppArmor }}
        appArmorProfile:
          type: Unconfined
        {{- end }}
        {{- end }}
      resources:
        {{- $resources := deepCopy $values.resources }}
        {{- with $values.gpus }}
        {{- $_ := set $resources "limits" (merge (dict $.root.Values.gpuResource .) ($resources.limits | default dict)) }}
        {{- end }}
        {{- toYaml $resources | nindent 8 }}
      volumeMounts:
        - {name: pod, mountPath: /etc/leeway/pod, readOnly: true}
        - {name: redis, mountPath: /etc/leeway/redis, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        - {name: home, mountPath: /home/leeway}
        {{- if or .root.Values.run.files .root.Values.run.filesConfigMap }}
        - {name: files, mountPath: /etc/leeway/run, readOnly: true}
        {{- end }}
        {{- if ne .component "verifier" }}
        - {name: models, mountPath: /models}
        {{- end }}
        {{- if eq .component "learner" }}
        - {name: runs, mountPath: /work/runs}
        {{- end }}
        {{- if $weights }}
        - {name: weights, mountPath: /weights}
        {{- end }}
        {{- if $values.sharedMemory }}
        - {name: shared-memory, mountPath: /dev/shm}
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: pod
      configMap:
        name: {{ include "leeway.name" .root }}-pod
    - name: redis
      projected:
        defaultMode: 0440
        sources:
          - secret:
              name: {{ include "leeway.redisSecret" .root }}
              items:
                - {key: url-{{ .component }}, path: url}
                {{- if eq .component "learner" }}
                - {key: url-desk, path: url-desk}
                {{- end }}
          {{- with include "leeway.tlsSecret" .root }}
          - secret:
              name: {{ . }}
              items:
                - {key: ca.crt, path: ca.crt}
          {{- end }}
    - name: tmp
      emptyDir: {}
    - name: home
      emptyDir: {}
    {{- if or .root.Values.run.files .root.Values.run.filesConfigMap }}
    - name: files
      configMap:
        name: {{ include "leeway.filesConfigMap" .root }}
    {{- end }}
    {{- if ne .component "verifier" }}
    - name: models
      {{- include "leeway.claimed" .root.Values.models.claim | nindent 6 }}
    {{- end }}
    {{- if eq .component "learner" }}
    - name: runs
      persistentVolumeClaim:
        claimName: {{ include "leeway.runsClaim" .root }}
    {{- end }}
    {{- if $weights }}
    - name: weights
      persistentVolumeClaim:
        claimName: {{ .root.Values.weights.claim | default (printf "%s-weights" (include "leeway.name" .root)) }}
    {{- end }}
    {{- with $values.sharedMemory }}
    - name: shared-memory
      emptyDir:
        medium: Memory
        sizeLimit: {{ . }}
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
