from leeway_rl.common.environments import Step


class SecondTry:
    """Asks the question again after a wrong answer, once. A right one is then worth half."""

    def reset(self, row):
        self.question, self.answer, self.tries = row["prompt"], row["answer"], 0

    def step(self, response):
        self.tries += 1
        right = response.endswith(f"\\boxed{{{self.answer}}}")
        if right or self.tries == 2:
            return Step(reward=right / self.tries, done=True)
        return self.question
