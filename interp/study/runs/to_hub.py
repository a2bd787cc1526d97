"""A finished run as a dataset repository on the Hugging Face hub.

Everything goes there but the lock and the log: results, answers, tables, figures, the report, and
the manifest, which names folders of this machine; so a repository is private unless asked for. Each
table is a configuration of the data set (`datasets.load_dataset("ORG/NAME", "rates")`). The token
is the library's own: `hf auth login`, or `HF_TOKEN` in the environment.
"""

from interp import __version__
from interp.base.errors import InputError, RunError, said
from interp.base.hub import is_hub_id
from interp.study.runs.folder import LOCK, RunFolder
from interp.study.runs.log import LOG


def push(folder: RunFolder, repo: str, *, public: bool = False, endpoint: str | None = None) -> str:
    """Put a run on the hub, or its new state over an old one; returns the repository's address.

    Args:
        folder: a finished run.
        repo: `ORG/NAME` of a dataset repository; made if it is not there.
        public: whether a repository that is made can be read by everyone.
        endpoint: another hub than the library's.

    Raises:
        RunError: if the run is not finished.
        InputError: without a token, for no repository's name, or if the hub refuses.
    """
    from huggingface_hub import HfApi, get_token

    if not is_hub_id(repo) or "@" in repo:
        raise InputError(f"{repo!r} names no repository; write it as ORG/NAME")
    if get_token() is None:
        raise InputError("no token for the hub; log in by `hf auth login`, or set HF_TOKEN")
    with folder.lock():
        if folder.manifest.get("status") != "complete":
            raise RunError(f"{folder}: is not finished; go on with: interp run resume {folder}")
        hub, card = HfApi(endpoint=endpoint), _card(folder, repo).encode()
        try:
            url = hub.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True)
            hub.upload_folder(
                repo_id=repo,
                repo_type="dataset",
                folder_path=folder.path,
                ignore_patterns=[LOCK, LOG, ".*"],
                commit_message=f"A run of interp {__version__}",
            )
            hub.upload_file(
                repo_id=repo,
                repo_type="dataset",
                path_or_fileobj=card,
                path_in_repo="README.md",
                commit_message="What is in here",
            )
        except Exception as problem:  # the library's, and those of what it connects by
            raise InputError(
                f"{repo}: the hub does not take it ({said(problem)}); see whether "
                "the token may write there, and the network"
            ) from None
    return str(url)


def _card(folder: RunFolder, repo: str) -> str:
    """The page of the repository; each table is a configuration that the hub shows."""
    tables = sorted(path.stem for path in folder.file("tables").glob("*.csv"))
    configs = [f"- config_name: {name}\n  data_files: tables/{name}.csv" for name in tables]
    front = ["---", "tags: [interp]", *(["configs:", *configs] if configs else []), "---"]
    labels = ", ".join(map(str, folder.traits))
    says = (
        f"A run of interp {__version__}: {labels}. `report.html` is the report, in one page; "
        "`manifest.json` holds configuration, versions and hashes."
    )
    return "\n".join([*front, f"# {repo.partition('/')[2]}", "", says, ""])
