"""How the papers of the models are cited."""

from __future__ import annotations

from nexus.models.registry import ModelSpec

# By arXiv identifier: a key, the authors in the order of the paper, and the year of its arXiv text.
_AUTHORS = {
    "2304.02643": (
        "kirillov2023segment",
        "Kirillov, Alexander and Mintun, Eric and Ravi, Nikhila and Mao, Hanzi and Rolland, Chloe "
        "and Gustafson, Laura and Xiao, Tete and Whitehead, Spencer and Berg, Alexander C. and Lo, "
        "Wan-Yen and Doll{\\'a}r, Piotr and Girshick, Ross",
    ),
    "2306.14289": (
        "zhang2023faster",
        "Zhang, Chaoning and Han, Dongshen and Qiao, Yu and Kim, Jung Uk and Bae, Sung-Ho and Lee, "
        "Seungkyu and Hong, Choong Seon",
    ),
    "2304.12306": (
        "ma2023segment",
        "Ma, Jun and He, Yuting and Li, Feifei and Han, Lin and You, Chenyu and Wang, Bo",
    ),
    "2408.00714": (
        "ravi2024sam2",
        "Ravi, Nikhila and Gabeur, Valentin and Hu, Yuan-Ting and Hu, Ronghang and Ryali, "
        'Chaitanya and Ma, Tengyu and Khedr, Haitham and R{\\"a}dle, Roman and Rolland, Chloe and '
        "Gustafson, Laura and Mintun, Eric and Pan, Junting and Alwala, Kalyan Vasudev and Carion, "
        "Nicolas and Wu, Chao-Yuan and Girshick, Ross and Doll{\\'a}r, Piotr and Feichtenhofer, "
        "Christoph",
    ),
    "2501.07256": (
        "zhou2025edgetam",
        "Zhou, Chong and Zhu, Chenchen and Xiong, Yunyang and Suri, Saksham and Xiao, Fanyi and "
        "Wu, Lemeng and Krishnamoorthi, Raghuraman and Dai, Bo and Loy, Chen Change and Chandra, "
        "Vikas and Soran, Bilge",
    ),
}


def bibtex(spec: ModelSpec) -> str:
    """Return a BibTeX entry of the paper of a model, from arXiv."""
    key, authors = _AUTHORS[spec.arxiv]
    return (
        f"@misc{{{key},\n"
        f"  title = {{{{{spec.paper}}}}},\n"
        f"  author = {{{authors}}},\n"
        f"  year = {{20{spec.arxiv[:2]}}},\n"
        f"  eprint = {{{spec.arxiv}}},\n"
        "  archivePrefix = {arXiv}\n"
        "}"
    )
