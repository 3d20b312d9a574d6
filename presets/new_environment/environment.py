from leeway_rl.common.environments import Step


class SecondTry:
    """Asks the question again until the answer is right. Every further try is worth less."""

    def reset(self, row):
        self.question, self.answer, self.tries = row["prompt"], row["answer"], 0

    def step(self, response):
        self.tries += 1
        if response.endswith(f"\\boxed{{{self.answer}}}"):
            return Step(reward=1 / self.tries, done=True)
        return self.question
