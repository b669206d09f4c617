"""OTLP out, for spans, metrics and logs: batch -> bytes -> sender -> answer.

A `BatchQueue` gathers what ends (queue.py), `Batches` makes requests of it (batch.py, encode.py), a `Delivery` sends
each until it has arrived or the time is over (delivery.py), by a sender for each protocol (grpc_sender.py,
http_sender.py), and what a collector says is read in one place (answer.py).

Why not the official exporters and processors? Their batch takes everything with it when one member cannot be encoded
(`test_a_span_that_cannot_be_encoded_goes_alone`) or is too large (`test_a_span_that_is_too_large_alone_goes_alone`,
`test_what_is_refused_as_too_large_is_halved`), and does not grow under load, so that a burst is lost
(`test_a_burst_is_not_lost`). Their `force_flush()` says True when spans were lost, and ignores its timeout
(`test_a_flush_is_true_when_nothing_was_lost_since_the_last`, `test_a_flush_keeps_its_time`); their `shutdown()` waits
for up to 30 seconds (`test_an_exporter_that_hangs`, `test_a_hanging_collector_does_not_hold_up_a_stop`). They take no
notice of a partial success (`test_rejected_spans_are_counted`), and count nothing that is lost
(`test_what_a_stop_leaves_behind`). An outage is a line for each batch there, and one line here
(`test_an_outage_is_one_error_and_one_info`). A connection that goes silent is kept
(`test_a_silent_connection_is_replaced`), a delay of 0 seconds is obeyed
(`test_a_collector_that_is_always_in_a_hurry_is_asked_a_few_times`), and redirects are followed, headers and all
(`test_a_redirect_is_not_followed`). Their channel is opened before a server forks, and metrics of a forked process go
on where its parent's were (`test_fork`).
"""
