"""Tables for people."""

from leeway_rl.common.tables import as_text, markdown, show, table


def test_words_stand_to_the_left_and_numbers_to_the_right_without_trailing_spaces():
    shown = table(("run", "step", "why"), [("a-long-name", "3/60", ""), ("b", "12/60", "[late] :tada:")], right={1})
    assert as_text(shown).splitlines() == [
        "run           step  why",
        "a-long-name   3/60",
        "b            12/60  [late] :tada:",
    ]


def test_a_table_whose_heads_are_all_empty_has_no_line_for_them():
    assert as_text(table(("", ""), [("tokens", "5"), ("steps", "12")], right={1})) == "tokens   5\nsteps   12"


def test_a_long_line_is_not_broken_where_it_is_text():
    assert as_text(table(("a", "b"), [("x" * 300, "y" * 300)])).splitlines()[1] == f"{'x' * 300}  {'y' * 300}"


def test_a_table_on_a_narrow_terminal_keeps_its_width(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    show(table(("a", "b"), [("x" * 50, "y" * 50)]))
    assert f"{'x' * 50}  {'y' * 50}" in capsys.readouterr().out


def test_a_word_that_is_too_long_goes_on_below_and_what_stands_beside_it_stays_whole(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    show(table(("id", "reason"), [("1790000000-0", "z" * 300)]))
    said = capsys.readouterr().out
    assert "1790000000-0  zzz" in said
    assert said.count("z") == 300


def test_markdown_says_which_columns_are_numbers():
    assert markdown(("after", "rows"), [("reading", "1,024")], right={1}) == [
        "| after | rows |",
        "|---|---:|",
        "| reading | 1,024 |",
    ]
