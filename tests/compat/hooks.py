"""What Schemathesis must know of the API that OpenAPI cannot say: a filter that is sent empty is as if it
were not sent (`filters_choose_and_empty_ones_do_not` in tests/api/lists.rs), not a wrong value of it. The key
is no filter: cases with an empty one, of which Schemathesis makes many, are tried like all others."""

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    query = dict(case.query or {})
    return not any(value == "" for name, value in query.items() if name != "accesskey")
