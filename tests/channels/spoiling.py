"""Messages that are nearly right, for whoever has to refuse them."""

from hypothesis import strategies as st

V1_TEXT = '{"topic":"room:1","event":"say","payload":{"a":[1,-2.5e3,"\\u00fc\\n"],"b":null},"ref":"2","join_ref":"1"}'
V2_TEXT = '["1","2","room:1","say",{"a":[1,-2.5e3,"\\u00fc\\n"],"b":{"c":[true,false,null]}}]'
TOKENS = [
    *'[]{}:,"\\ -',
    '""',
    "null",
    "1",
    "1e9",
    "1e999",
    "NaN",
    "01",
    "\\ud800",
    "\\u0061",
    "9" * 20,
    "9" * 5_000,
    "\ud800",
]
TOKENS += ['"topic"', '"event"', '"payload"', '"ref"', '"join_ref"', '"amount"', '"terms"', "ü", "\x00", "[" * 2_000]


@st.composite
def spoiled(draw: st.DrawFn, whole: str) -> str:
    """A message that was one, with pieces put in and taken out."""
    text = whole
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 6)))
        text = text[:start] + draw(st.sampled_from(["", *TOKENS])) + text[end:]
    return text
