# METADATA
# title: A canary for a share of the users
# description: |
#   Always the same users, by a stable hash of who they are: whoever meets the new model keeps it, also when the share
#   grows. The stable pool follows as the fallback. Testers are always in, and whoever must not be is never.
package nexus.routes

import data.nexus.lib

canary := {
	"targets": ["canary", "stable"],
	"reason": sprintf("canary at %v", [data.canary.share]),
	"headers": {"x-lane": "canary"},
	"tags": {"lane": "canary"},
	"priority": 10,
} if {
	_chosen
	not input.principal.tenant in data.canary.never
}

_chosen if "tester" in input.principal.roles

_chosen if lib.share(data.canary.salt, input.principal.id) < data.canary.share

stable := {"targets": ["stable"], "tags": {"lane": "stable"}}
