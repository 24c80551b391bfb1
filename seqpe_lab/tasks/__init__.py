"""Each kind of work: its data, its model, its main loss and its evaluation."""


def task_of(recipe):
    if recipe.task == "image":
        from seqpe_lab.tasks import images
        return images
    from seqpe_lab.tasks import questions, text
    return questions if recipe.task == "qa" else text
