# METADATA
# title: Data residency by tenant
# description: |
#   A tenant's calls run in the region of its contract and nowhere else: its pools are the whole fallback chain. A tenant
#   without a region may not call, and no rule of a lower priority can send its data elsewhere.
package nexus.routes

residency := {
	"targets": data.regions[_region].pools,
	"reason": sprintf("데이터는 %s 안에 머문다", [data.regions[_region].name]),
	"tags": {"region": _region},
	"priority": 100,
}

_region := data.tenants[input.principal.tenant].region
