from r2maint.scratch.spool import Spool


def test_rows_come_back_in_order_and_again():
    spool = Spool.of(range(2000))
    assert list(spool) == list(range(2000))
    assert list(spool) == list(range(2000))
    assert len(spool) == 2000


def test_two_readings_may_run_at_once():
    spool = Spool.of(range(1500))
    assert list(zip(spool, spool, strict=True)) == [(n, n) for n in range(1500)]


def test_an_empty_spool_has_no_rows():
    assert not list(Spool.of(()))
    assert len(Spool.of(())) == 0


def test_the_items_are_consumed_once_and_lazily():
    taken = []

    def items():
        for number in range(3):
            taken.append(number)
            yield number

    spool = Spool.of(items())
    assert (list(spool), list(spool), taken) == ([0, 1, 2], [0, 1, 2], [0, 1, 2])
