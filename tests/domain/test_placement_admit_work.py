"""What may be wished for as a job: the rest is refused at once, with the field at fault."""

import pytest
from mesh_contracts.placement import Command, SubmitJob
from meshkit.testing import test_id, wish
from placement.domain.admit_work import bad_job


def job(image: str) -> SubmitJob:
    return SubmitJob(
        **wish(), name="train", project=test_id("project"), command=Command(image=image, argv=["run"])
    )


@pytest.mark.parametrize(
    "image",
    [
        *(
            "--privileged",
            "-v=/:/host",
            "",
            "  ",
            "train --privileged",
            " a",
            "a\n",
            "a:",
            "a@sha256:1",
        ),
        *("dir:/etc", "docker-archive:/srv/a.tar", "oci:a", "containers-storage:a", "docker://a"),
    ],
)
def test_what_podman_could_take_for_an_option_is_no_image(image: str) -> None:
    fault = bad_job(job(image), operator=True)
    assert fault is not None
    assert (fault.status, fault.param) == (422, "command.image")


@pytest.mark.parametrize("image", ["none", "registry.example:5000/a/train:1-2", "a@sha256:" + "0" * 64])
def test_the_name_of_an_image_is_taken(image: str) -> None:
    assert bad_job(job(image), operator=False) is None
