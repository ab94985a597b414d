"""The paper's benchmarks from their release files: readers, one record type, and what is told of a file by its content.

`read("boolq", path)` yields the items of a file or folder; `find(path)` tells which benchmarks lie there; `BENCHMARKS`
holds for each its split, its size, and which of its text must not be trained on (sections 3 and 5). Readers are grouped
as in the paper: `commonsense`, `questions`, `mathematics`, `programs`, `knowledge`, `people`.
"""

from puna.testsets.benchmarks import BENCHMARKS as BENCHMARKS
from puna.testsets.benchmarks import Benchmark as Benchmark
from puna.testsets.benchmarks import Text as Text
from puna.testsets.found import Found as Found
from puna.testsets.found import detect as detect
from puna.testsets.found import find as find
from puna.testsets.found import is_of as is_of
from puna.testsets.found import look as look
from puna.testsets.found import read as read
from puna.testsets.found import read_file as read_file
from puna.testsets.found import split_of as split_of
from puna.testsets.items import Item as Item
