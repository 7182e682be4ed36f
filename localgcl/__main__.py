"""`localgcl` and `python -m localgcl`: the command line."""

# Until `main` has corrected `sys.path`, Python looks for modules where the job tells it to. So this
# file, like the package itself, imports only what Python has loaded already.
import os
import sys

# With these variables a job makes every Python look elsewhere for its modules, run something first,
# or print more than it would. They are meant for the command. Others, like PYTHONUNBUFFERED, change
# nothing that matters here. They are set for whole machines, and nobody should have to wait because
# of those.
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
    except KeyboardInterrupt:  # before there was anything to interrupt
        status = 130
    # Everything has been signed out already. Closing the databases now would write to the disk
    # twice, above all for a checkpoint, and the next user of the database does that anyway.
    os._exit(status)


def _leave_the_environment_to_the_command() -> None:
    """Keep the job's variables and folders from deciding what is imported from here on.

    If one of these variables is set, this starts again in a Python that reads none of them.
    """
    if (
        any(map(os.environ.get, _FOR_THE_COMMAND))
        and not sys.flags.ignore_environment
        and "PYTHONHOME" not in os.environ  # without it that Python may not find itself
        and os.path.isfile(__file__)  # not in an archive
    ):
        switches = ["-E", "-P", *(["-B"] if sys.flags.dont_write_bytecode else [])]
        words = [sys.executable, *switches, __file__, *sys.argv[1:]]
        try:  # noqa: SIM105 - contextlib may be the job's
            os.execve(sys.executable, words, _given_environment())  # noqa: S606
        except OSError:
            pass  # the arguments do not fit: this Python goes on
    if not sys.flags.safe_path:
        # The current folder, or that of the script.
        sys.path.append(sys.path.pop(0))


def _given_environment() -> dict[bytes, bytes]:
    """Return the environment that this process was given, whatever Python has changed in it."""
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = file.read().split(b"\0")
    except OSError:
        return dict(os.environb)
    environment: dict[bytes, bytes] = {}
    for pair in pairs:
        name, separator, value = pair.partition(b"=")
        if name and separator:
            environment.setdefault(name, value)  # the first one counts, as for getenv(3)
    return environment


def _keep_closed_streams_free() -> None:
    """Keep files opened from here on away from the numbers of closed standard streams.

    Whatever writes to a standard stream would write into such a file. SQLite would leave /dev/null
    in its place, for the command too. What is opened here is closed again for the command.
    """
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) < 2:
            pass
        if descriptor > 2:
            os.close(descriptor)


def _find_the_package() -> None:
    """Import the package that this file is part of as `localgcl`, wherever it lies."""
    sys.path.insert(0, _HOME)
    import localgcl  # noqa: F401 - from there, and so everything in it

    # What is found nowhere else is found there, or where the job has its own modules.
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
    if not __package__:  # started again, by its path
        _find_the_package()
    main()
