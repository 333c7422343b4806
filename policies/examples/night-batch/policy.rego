# METADATA
# title: Background work at night goes to the cheap model
# description: |
#   From 22:00 to 07:00 in Korea, and all weekend, background calls run on the large, cheap pool; by day they wait behind
#   nobody on the small one. A call is background work when profile-router labelled it so or its key says so.
package nexus.routes

import data.nexus.lib

night := {"targets": ["night", "small"], "reason": sprintf("야간 배치 (%d시)", [_hour]), "tags": {"window": "night"}, "priority": 20} if {
	_background
	_night
}

day := {"targets": ["small"], "set": {"max_tokens": 1024}, "reason": "background work by day", "tags": {"window": "day"}, "priority": 10} if {
	_background
}

_background if input.labels.profile == "background"

_background if input.principal.labels.workload == "batch"

_hour := lib.hour(input.time_ms, data.night.utc_offset)

_night if _hour >= data.night.begins

_night if _hour < data.night.ends

_night if lib.weekday(input.time_ms, data.night.utc_offset) in {0, 6}
