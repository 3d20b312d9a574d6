"""Environments of a user's, good and bad."""

import asyncio
import os
import sys
import threading
import time
from pathlib import Path

from leeway_rl.common.environments import Step


class Adds:
    """Adds what it is told, up to a bound."""

    def __init__(self, bound=100):
        self.bound = bound

    def reset(self, row, seed):
        self.sum, self.step_of_seed = int(row.get("start", 0)), seed
        row.clear()  # it must not change another's

    def step(self, response):
        self.sum += int(response)
        done = self.sum >= self.bound
        return Step(f"{self.sum}+{self.step_of_seed}", reward=0.5 + done, done=done)


class Returns:
    """Returns what its options say."""

    def __init__(self, given):
        self.given = given

    def reset(self):
        pass

    def step(self, response):
        return self.given


class ReturnsFromReset(Returns):
    def reset(self):
        return "12"


class IsNan(Returns):
    def __init__(self):
        super().__init__(Step("1", reward=float("nan")))


class IsNone(Returns):
    def __init__(self):
        super().__init__(None)


class SaysHalfACharacter(Returns):
    def __init__(self):
        super().__init__("\ud800")


class SaysFarTooMuch(Returns):
    def __init__(self):
        super().__init__("1" * 2_000_000)


class Meets:
    """Answers when twenty of them have been asked."""

    asked = 0

    async def reset(self):
        pass

    async def step(self, response):
        Meets.asked += 1
        while Meets.asked < 20:
            await asyncio.sleep(0.01)
        return response


class WhenTold:
    """Answers when there is a file."""

    def __init__(self, file):
        self.file = Path(file)

    async def reset(self):
        pass

    async def step(self, response):
        while not self.file.exists():
            await asyncio.sleep(0.01)
        return response


class Mixed:
    """One of its methods is async, and the other runs a loop of its own."""

    async def reset(self):
        await asyncio.sleep(0)

    def step(self, response):
        asyncio.run(asyncio.sleep(0))
        return "1"


class InTurn:
    """Notices when two of its calls run at once."""

    busy = 0

    def reset(self):
        pass

    def step(self, response):
        InTurn.busy += 1
        time.sleep(0.01)
        alone = InTurn.busy == 1
        InTurn.busy -= 1
        return Step("1", reward=float(alone))


class Misbehaves:
    """Answers until it is told 9, and then does what its options say."""

    def __init__(self, how, key=""):
        self.how, self.key = how, key

    def reset(self, seed):
        self.seed = seed

    def step(self, response):
        return getattr(self, self.how)() if response == "9" else "1"

    def raises(self):
        raise KeyError("no such thing")

    def quotes(self):
        raise ValueError(f"the key {self.key} is not known")

    def says_its_key(self):
        return f"1{self.key}"

    def leaves(self):
        sys.exit(3)

    def ends(self):
        os._exit(7)

    def ends_beside_a_shell(self):
        os.system("sleep 3600 &")
        os._exit(7)

    def hangs(self):
        time.sleep(3600)

    def hoards(self):
        return str(len(bytearray(1 << 40)))

    def dies(self):
        os.kill(os.getpid(), 9)

    def prints(self):
        print('{"n": 0, "observation": "5", "reward": 7.0, "done": true}', flush=True)
        return "1"

    def forks(self):
        if os.fork() == 0:
            time.sleep(3600)
        return "1"

    def fork_returns(self):
        os.fork()
        return "1"

    def leaves_a_thread(self):
        threading.Thread(target=time.sleep, args=(3600,)).start()
        return "1"


class RaisesAtOnce(Misbehaves):
    def reset(self, seed):
        raise OSError("no such endpoint")


class AsyncMisbehaves(Misbehaves):
    async def reset(self, seed):
        self.seed = seed

    async def step(self, response):
        if response == "9" and self.how == "never":
            await asyncio.sleep(3600)
        return super().step(response)


class NoStep:
    def reset(self):
        pass


class StepOfTwo:
    def reset(self, question):
        pass

    def step(self, response):
        return "1"


def function():
    return Returns("1")
