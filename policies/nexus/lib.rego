# METADATA
# title: What several policies need
# description: |
#   Functions, and no rules: `import data.nexus.lib`, then `lib.share("experiment", input.principal.id) < 0.05`.
package nexus.lib

# METADATA
# title: share(salt, id)
# description: |
#   A number from 0 to just below 1 that is always the same for the same salt and id, spread evenly over ids, in steps
#   of 1/65536. Give each experiment a salt of its own: otherwise the same users would be in all of them.
share(salt, id) := (((_digit(hash, 0) + (_digit(hash, 1) / 16)) + (_digit(hash, 2) / 256)) + (_digit(hash, 3) / 4096)) / 16 if {
	hash := crypto.sha256(concat("\n", [salt, id]))
}

_digit(hash, at) := indexof("0123456789abcdef", substring(hash, at, 1))

# METADATA
# title: hour(time_ms, offset)
# description: |
#   The hour, 0 to 23, at so many hours from UTC: 9 for Korea, which has no summer time. For zones that have one, use
#   `time.clock([input.time_ms * 1000000, "Europe/Berlin"])`.
hour(time_ms, offset) := floor((time_ms / 3600000) + offset) % 24

# METADATA
# title: weekday(time_ms, offset)
# description: 0 for Sunday to 6 for Saturday, at so many hours from UTC.
weekday(time_ms, offset) := (floor(((time_ms / 3600000) + offset) / 24) + 4) % 7
