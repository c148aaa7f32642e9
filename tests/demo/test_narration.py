from demo.narration import PROGRESS, TASK


def test_lines_of_a_pipeline_run_move_the_bar() -> None:
    task = TASK.search("12:00:00.000 - INFO - Executing task \x1b[96m'train'\x1b[0m")
    assert task is not None and task["name"] == "train"
    seen = PROGRESS.search("    features 640/2640 pictures")
    assert seen is not None and (seen["done"], seen["total"]) == ("640", "2640")
