from tests.benchmarks.figures import Setting

HEAD = ("a",)


def compare(setting: Setting) -> list[tuple[str, ...]]:
    return []
