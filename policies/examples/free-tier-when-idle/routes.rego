package nexus.routes

import data.idle

free := {"targets": idle.pools, "reason": "idle backends"} if {
	input.principal.tier == "free"
	count(idle.pools) > 0
}
