"""Drawings of runs: what happens to a training that is interrupted."""
from __future__ import annotations

from seqpe_lab.course.drawings_canvas import SMALL, Canvas


def killed_run() -> Canvas:
    """A run that is killed, and resumed from its last checkpoint by another kernel."""
    steps, every, killed, pause = 200, 50, 130, 24
    last = killed // every * every
    end = killed + pause + steps - last  # of the time, in steps
    canvas = Canvas(
        "What a kill costs: a start, and steps done twice",
        f"Time goes to the right. A notebook kernel starts a training process and ends; the "
        f"process goes on. It writes a checkpoint into the run's folder every {every} steps and is "
        f"killed after step {killed}. Another kernel reads the folder and resumes the run: a "
        f"second process starts from the checkpoint of step {last} and computes the steps "
        f"{last + 1} to {killed} a second time, then {killed + 1} to {steps}.", 372)

    def at(time: float) -> float:
        return 16 + 448 * time / end

    again, resumed = killed + pause + killed - last, killed + pause
    canvas.box(at(0), 34, at(55) - at(0), 36, "kernel", "quiet")
    canvas.box(at(95), 34, at(end) - at(95), 36, "another kernel reads the folder",
               "quiet")
    canvas.text(at(0), 22, "notebook", "start", SMALL, "quiet")
    canvas.arrow(at(4), 72, at(4), 134)
    canvas.text(at(4) + 8, 100, "starts", "start", SMALL)
    canvas.arrow(at(resumed) + 4, 72, at(resumed) + 4, 134)
    canvas.text(at(resumed) + 12, 100, "resumes", "start", SMALL)
    canvas.box(at(0), 136, at(killed) - at(0), 40, f"steps 1 to {killed}", "blue", 0.2)
    canvas.text(at(killed) - 4, 126, "killed", "end", SMALL, "pink", bold=True)
    for tilt in (-7, 7):
        canvas.line([(at(killed) - 7, 156 - tilt), (at(killed) + 7, 156 + tilt)], "pink", 4)
    canvas.box(at(resumed), 136, at(again) - at(resumed), 40, "", "orange", 0.45)
    canvas.box(at(again), 136, at(end) - at(again), 40, f"{killed + 1} to {steps}", "blue", 0.2)
    canvas.text(at(resumed) + 12, 126, f"{last + 1} to {killed}: twice", "start", SMALL, "orange",
                bold=True)
    canvas.box(at(0), 258, at(end) - at(0), 60, "", "green", 0.08)
    canvas.text(at(0) + 8, 308, "folder of the run: recipe, log, checkpoints", "start", SMALL)
    for step in range(every, steps + 1, every):
        time = step if step <= killed else resumed + step - last
        x = min(at(time), at(end) - 28)
        canvas.arrow(x, 178, x, 262, "green", 1.5, 7)
        canvas.tiles(x - 20, 264, [step], "green", 40, 26, fill=0.3, size=SMALL)
    canvas.arrow(at(last) + 16, 262, at(resumed) - 1, 180, "orange", 2.5)
    canvas.text(240, 344, "Nothing else is lost: what a new kernel and a new process need\n"
                "is in the folder.", size=SMALL, colour="quiet")
    return canvas
