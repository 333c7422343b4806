# METADATA
# title: Weighted targets
# description: |
#   Each call is drawn anew by the weights; the targets that were not drawn follow as the fallback, by name. For a
#   share that sticks to users see canary.
package nexus.routes

shared := {"targets": sort([pool | some pool, _ in _weights]), "weights": _weights, "reason": "shared by weight"}

_weights := data.shares[input.request.model]
