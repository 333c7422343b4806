# METADATA
# title: Long prompts go to the long-context pool
# description: |
#   The prompt and the answer asked for must fit into a context together. What fits into none is refused with a message
#   that says so, before a backend is asked.
package nexus.routes

long := {"targets": ["long"], "reason": sprintf("%d tokens", [_tokens])} if _tokens > data.contexts.ordinary

_tokens := input.prompt.tokens_est + object.get(input.request, "max_tokens", data.contexts.answer)
