# METADATA
# title: A/B test
# description: |
#   Two variants, each user always in the same one; the variant is told to the caller and stands in the log, so that
#   quality can be compared. Users outside the experiment are in neither.
package nexus.routes

import data.nexus.lib

variant := {
	"targets": _variant.pools,
	"set": _variant.set,
	"headers": {"x-variant": _name},
	"tags": {"experiment": data.experiment.name, "variant": _name},
	"reason": sprintf("%s: %s", [data.experiment.name, _name]),
} if {
	input.request.route == "chat"
	input.request.model in data.experiment.models
}

_variant := data.experiment.variants[_name]

# The variants share the line from 0 to 1 in their order: A has what lies below its end, B the rest.
_name := "A" if _share < data.experiment.a

else := "B" if _share < data.experiment.a + data.experiment.b

_share := lib.share(data.experiment.name, input.principal.id)
