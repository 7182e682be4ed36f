"""`localgcl` and `python -m localgcl`: the command line."""

# Before `main` has seen to it, Python finds modules where the job has it look. So nothing is
# imported here, nor by the package itself, that Python has not loaded before.
import os
import sys

# Variables by which a job has every Python look elsewhere for its modules, run something first, or
# say more than it would. They are for the command. Others, as PYTHONUNBUFFERED, change nothing that
# matters here, and are set for whole machines: nobody is to wait because of those.
_FOR_THE_COMMAND = (
    "PYTHONASYNCIODEBUG",
    "PYTHONCASEOK",
    "PYTHONDEBUG",
    "PYTHONDEVMODE",
    "PYTHONDUMPREFS",
    "PYTHONDUMPREFSFILE",
    "PYTHONINSPECT",
    "PYTHONMALLOC",
    "PYTHONMALLOCSTATS",
    "PYTHONOPTIMIZE",
    "PYTHONPATH",
    "PYTHONPLATLIBDIR",
    "PYTHONPROFILEIMPORTTIME",
    "PYTHONTRACEMALLOC",
    "PYTHONUSERBASE",
    "PYTHONVERBOSE",
    "PYTHONWARNINGS",
)

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def main() -> None:
    """Run the command line: by click, unless it is one that can do without."""
    try:
        _leave_the_environment_to_the_command()
        _keep_closed_streams_free()
        status = _do(sys.argv[1:])
    except KeyboardInterrupt:  # before there was anything to be interrupted
        status = 130
    # Everything is signed out of. What remains, a checkpoint above all, writes to the disk twice
    # over, and whoever uses the database next does as well.
    os._exit(status)


def _leave_the_environment_to_the_command() -> None:
    """See that the job's variables and its folders do not decide what is imported from here on.

    Where such a variable is set, this begins anew in a Python that reads none of them.
    """
    if (
        any(map(os.environ.get, _FOR_THE_COMMAND))
        and not sys.flags.ignore_environment
        and "PYTHONHOME" not in os.environ  # without which that Python may not find itself
        and os.path.isfile(__file__)  # not in an archive
    ):
        switches = ["-E", "-P", *(["-B"] if sys.flags.dont_write_bytecode else [])]
        words = [sys.executable, *switches, __file__, *sys.argv[1:]]
        try:  # noqa: SIM105 - contextlib may be the job's
            os.execve(sys.executable, words, _given_environment())  # noqa: S606
        except OSError:
            pass  # there is no room for so many words: this Python has to do
    if not sys.flags.safe_path:
        # The current folder, or that of the script.
        sys.path.append(sys.path.pop(0))


def _given_environment() -> dict[bytes, bytes]:
    """Return the environment that this process was given, whatever Python has made of it since."""
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = file.read().split(b"\0")
    except OSError:
        return dict(os.environb)
    environment: dict[bytes, bytes] = {}
    for pair in pairs:
        name, separator, value = pair.partition(b"=")
        if name and separator:
            environment.setdefault(name, value)  # the first counts, as for getenv(3)
    return environment


def _keep_closed_streams_free() -> None:
    """Keep what is opened from here on from the numbers of standard streams that are closed.

    It would be written to by whatever writes there, and SQLite would leave /dev/null in its place,
    for the command too. What is opened here is closed for that again.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) < 2:
            pass
        if descriptor > 2:
            os.close(descriptor)


def _find_the_package() -> None:
    """Have the package that this file is a part of be `localgcl`, wherever it lies."""
    sys.path.insert(0, _HOME)
    import localgcl  # noqa: F401 - from there, and so everything in it

    # What is nowhere else is there, or where the job has its own modules.
    del sys.path[0]
    sys.path += [_HOME, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def _do(words: list[str]) -> int:
    from localgcl._base.text import on_one_line
    from localgcl._run.arguments import read
    from localgcl._run.child import ERROR_PATIENCE_SECONDS, Interrupted, say
    from localgcl.errors import LocalGCLError

    try:
        found = read(words)
        if found is not None:
            return found[0].do(found[1])
    except LocalGCLError as error:
        say(f"Error: {on_one_line(str(error))}", ERROR_PATIENCE_SECONDS)
        return 1
    except Interrupted as interrupted:
        return interrupted.status
    from localgcl.cli import main as with_click

    with_click()
    return 0


if __name__ == "__main__":
    if not __package__:  # begun anew, by its path
        _find_the_package()
    main()
