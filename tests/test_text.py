"""Text from files, made safe to show."""

import pytest

from cnnzoo.text import clean, clean_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc\rd", "a b c d"),
        ("\x1b]0;title\x07", r"\u001b]0;title\u0007"),
        ("\x9b31m \u202egnp.exe", r"\u009b31m \u202egnp.exe"),
        ("\u200e\u061c\u2066\u200b\ufeff", r"\u200e\u061c\u2066\u200b\ufeff"),
        ("\U000e0041", r"\udb40\udc41"),
        ("\ud800 \udcff", r"\ud800 \udcff"),
        ("91.06 ± 0.12 – × é 犬 😀", "91.06 ± 0.12 – × é 犬 😀"),
    ],
)
def test_what_is_not_printable_is_spelled_out(text: str, shown: str) -> None:
    assert clean(text) == shown
    assert clean_lines(f"{text}\nx".replace("\r", " ").replace("\t", " ")).endswith("\nx")
    clean(text).encode()
