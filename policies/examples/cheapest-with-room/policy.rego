# METADATA
# title: The cheapest healthy backend that has room
# description: |
#   Pools in order of the price of their cheapest backend, of those that are healthy, use less of their KV cache than the
#   bound and have no queue. A backend whose load or price is not known is left out. Where none is left, the call goes to
#   the pools of its model.
package nexus.routes

cheapest := {
	"targets": _pools,
	"reason": sprintf("%v at %v", [_pools[0], _candidates[0][0]]),
	"tags": {"price": sprintf("%v", [_candidates[0][0]])},
} if {
	input.request.model in data.cheapest.models
	count(_pools) > 0
}

# [price, pool] in order; a pool of several backends stands at each of their prices.
_candidates := sort([[b.price, b.pool] |
	some b in input.backends
	b.healthy
	b.kv_used < data.cheapest.kv_used
	b.waiting == 0
])

_pools := [pool |
	some i, [_, pool] in _candidates
	not pool in {earlier | some j, [_, earlier] in _candidates; j < i}
]
