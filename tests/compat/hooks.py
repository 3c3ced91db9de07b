"""What Schemathesis must know of the API that OpenAPI cannot say: a filter that is sent empty is as if it
were not sent (`filters_choose_and_empty_ones_do_not` in tests/api/lists.rs), not a wrong value of it."""

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    return not any(value == "" for value in dict(case.query or {}).values())
