# METADATA
# title: What each tier may do
package nexus.access

# Tools are for tiers that pay for what they cause.
tools_of_free := {"code": "tier_without_tools", "message": "Tools are not part of the free tier."} if {
	input.principal.tier == "free"
	count(input.request.tools) > 0
}
