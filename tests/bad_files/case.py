"""One bad file and what the program must say to it."""
import dataclasses
import os


@dataclasses.dataclass
class Case:
    name: str                 # unique in its module
    command: list             # the program's arguments; the word "OUTPUT" stands for a path the runner chooses
    exits: tuple = (4,)       # the exit codes that are right
    says: str = ""            # must stand in the one line on standard error; empty: anything
    stdin: bytes = b""
    seconds: float = 5.0      # no longer than this


def write(folder, name, data):
    """Writes bytes (or text) to folder/name, with the folders between; gives the path."""
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data.encode() if isinstance(data, str) else data)
    return path
