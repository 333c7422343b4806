package nexus.lib_test

import data.nexus.lib

test_share_is_stable_and_below_one if {
	lib.share("a", "user-1") == lib.share("a", "user-1")
	every i in numbers.range(1, 200) {
		share := lib.share("a", sprintf("user-%d", [i]))
		share >= 0
		share < 1
	}
}

# Written down: a change of the function would move users between experiments.
test_share_does_not_change if lib.share("canary", "김민수") == 0.815399169921875

test_share_is_even if {
	low := [i | some i in numbers.range(1, 1000); lib.share("a", sprintf("user-%d", [i])) < 0.25]
	count(low) > 200
	count(low) < 300
}

test_salts_are_independent if {
	both := [i |
		some i in numbers.range(1, 1000)
		lib.share("a", sprintf("user-%d", [i])) < 0.5
		lib.share("b", sprintf("user-%d", [i])) < 0.5
	]
	count(both) > 200
	count(both) < 300
}

test_hour_in_korea if {
	lib.hour(1767225600000, 9) == 9 # 2026-01-01 00:00 UTC
	lib.hour(1767193199999, 9) == 23 # a millisecond before midnight
	lib.hour(1767193200000, 9) == 0
	lib.hour(1767225600000, -5) == 19
}

test_weekday if {
	lib.weekday(1767225600000, 9) == 4 # Thursday, 1 January 2026
	lib.weekday(1767193199999, 9) == 3
	lib.weekday(1767427200000, 0) == 6 # Saturday
	lib.weekday(1767513600000, 0) == 0
}
