# METADATA
# title: Tenant tiers
# description: |
#   Each tier has its pools and its longest answer; a tier that the table does not know may not call at all. A tenant
#   that has a contract of its own goes before its tier.
package nexus.routes

tier := {"targets": _tier.pools, "reason": sprintf("tier %v", [input.principal.tier]), "tags": {"tier": input.principal.tier}}

_tier := data.tiers[input.principal.tier]

contract := {"targets": data.contracts[input.principal.tenant].pools, "reason": "contract", "priority": 10}
