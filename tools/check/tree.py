"""The files that the checks look at, and how they report."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def files(root: Path) -> list[Path]:
    """Files of the checkout that git tracks or would add; in a tree without git, all but build folders."""
    if (root / ".git").exists():
        # safe.directory: root may check a user's checkout and a user root's.
        listed = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "-z", "--cached", "--others",
             "--exclude-standard"],
            capture_output=True, check=True).stdout.decode()
        found = [root / name for name in listed.split("\0") if name]
    else:
        found = [path for path in root.rglob("*") if not path.relative_to(root).parts[0].startswith("build")]
    return sorted(path for path in set(found) if path.is_file() and not path.is_symlink())


def report(check: str, problems: list[str], looked_at: str) -> int:
    """Prints the problems, one a line; the status for exit()."""
    for problem in problems:
        print(problem)
    if problems:
        print(f"{check}: {len(problems)} to mend ({looked_at})")
        return 1
    print(f"{check}: nothing to mend ({looked_at})")
    return 0


def self_test(name: str, expectations: list[tuple[str, bool]]) -> int:
    """Each expectation is a sentence and whether it held; a self-test that expects nothing fails."""
    broken = [sentence for sentence, held in expectations if not held]
    for sentence in broken:
        print(f"{name} --self-test: does not hold: {sentence}")
    if broken or not expectations:
        return 1
    print(f"{name} --self-test: {len(expectations)} expectations held")
    return 0


def write_tree(root: Path, contents: dict[str, str]) -> None:
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    sys.exit("tree.py is used by the checks beside it; run those")
