"""Writes pickles as releases of Python and of the libraries that came with Airflow write them.

Runs on Python 2.7 as well. For each environment, with what it has of pendulum, pytz, python-dateutil and numpy:
``PYTHONPATH=libraries python make_pickles.py >> pickles.tsv``, then gzip.
Columns: environment, expression, protocol, pickler, hex.
"""

import binascii
import pickle
import sys

EXPRESSIONS = [
    "None", "True", "12", "-1", "2 ** 70", "-2 ** 31", "1.5", "'text'", "u'Gr\\xf6\\xdfe'", "''", "[]", "{}", "()",
    "[1, [2, (3, 4, 5, 6)]]", "{'a': {'b': [None, False]}, 'c': 'a'}", "set(['a', 1])", "frozenset([1])", "set()",
    "b'\\x00\\xff'", "b''", "'a' * 300",
    "datetime.datetime(2026, 1, 2, 3, 4, 5, 6)", "datetime.date(2021, 12, 31)", "datetime.time(1, 2, 3, 4)",
    "datetime.timedelta(-1, 2, 3)", "decimal.Decimal('1.10')", "uuid.UUID(int=5)",
    "collections.OrderedDict([('z', 1), ('a', 2)])", "collections.defaultdict(list, {'a': [1]})",
    "datetime.datetime(2026, 7, 2, 3, tzinfo=datetime.timezone.utc)",
    "datetime.datetime(2026, 7, 2, 3, tzinfo=datetime.timezone(datetime.timedelta(0, 7200), 'X'))",
    "datetime.datetime(2026, 7, 2, 3, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin'))",
    "datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin'))",
    "datetime.datetime(2026, 7, 2, 3, tzinfo=pytz.utc)",
    "pytz.timezone('Europe/Berlin').localize(datetime.datetime(2026, 7, 2, 3))",
    "pytz.timezone('Europe/Berlin').localize(datetime.datetime(2026, 10, 25, 2, 30), is_dst=False)",
    "datetime.datetime(2026, 7, 2, 3, tzinfo=pytz.FixedOffset(90))",
    "datetime.datetime(2026, 7, 2, 3, tzinfo=dateutil.tz.tzutc())",
    "datetime.datetime(2026, 7, 2, 3, tzinfo=dateutil.tz.tzoffset(None, 5400))",
    "pendulum.create(2026, 7, 2, 3, 4, 5, 6)", "pendulum.create(2026, 7, 2, 3, tz='Europe/Berlin')",
    "pendulum.instance(datetime.datetime(2026, 7, 2, 3))",
    "pendulum.datetime(2026, 7, 2, 3, 4, 5, 6)", "pendulum.datetime(2026, 7, 2, 3, tz='Europe/Berlin')",
    "pendulum.datetime(2026, 7, 2, 3, tz=pendulum.timezone(3600))", "pendulum.date(2026, 7, 2)",
    "datetime.datetime(2026, 7, 2, 3, tzinfo=pendulum.timezone('UTC'))",
    "datetime.datetime(2026, 7, 2, 3, tzinfo=pendulum.timezone('Europe/Berlin'))",
    "numpy.int64(-5)", "numpy.uint8(200)", "numpy.float64(1.5)", "numpy.float32(0.25)", "numpy.bool_(True)",
    "[numpy.int32(1), numpy.int32(2)]",
]  # fmt: skip


def environment():
    """Imports what there is; names it with its releases."""
    import collections
    import datetime
    import decimal
    import uuid

    names = {"collections": collections, "datetime": datetime, "decimal": decimal, "uuid": uuid}
    label = "python %d.%d" % sys.version_info[:2]
    for module in ("zoneinfo", "pytz", "dateutil.tz", "pendulum", "numpy"):
        try:
            names[module.split(".")[0]] = __import__(module)
        except ImportError:
            continue
        if module in ("pendulum", "numpy"):
            label += ", %s %s" % (module, getattr(names[module], "__version__", "1"))
    return label, names


def picklers():
    """The one in C, and the one in Python."""
    if sys.version_info[0] == 2:
        import cPickle

        return [("C", cPickle.dumps), ("Python", pickle.dumps)]
    return [("C", pickle.dumps), ("Python", pickle._dumps)]


def main():
    """One line for each expression, protocol and pickler; the same bytes once."""
    label, names = environment()
    for expression in EXPRESSIONS:
        try:
            value = eval(expression, dict(names))
        except (NameError, AttributeError, TypeError):
            continue
        seen = set()
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            for pickler, dumps in picklers():
                data = binascii.hexlify(dumps(value, protocol)).decode()
                if data not in seen and len(data) < 100000:
                    seen.add(data)
                    sys.stdout.write("\t".join([label, expression, str(protocol), pickler, data]) + "\n")


if __name__ == "__main__":
    main()
