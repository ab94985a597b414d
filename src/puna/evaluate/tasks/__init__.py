"""The pack: a task for every benchmark of the paper, in the order of its tables.

`PACK` holds them by name. Prompts stand in the modules, one for each family; docs/evaluate.md shows them all.
"""

from puna.evaluate.task import Task
from puna.evaluate.tasks import commonsense, knowledge, mathematics, people, programs, questions

PACK: dict[str, Task] = {
    task.name: task
    for module in (commonsense, questions, mathematics, programs, knowledge, people)
    for task in module.TASKS
}
