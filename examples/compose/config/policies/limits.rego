# METADATA
# title: How long answers may be
package nexus.limits

# Answers of the free tier are short.
short := {"max_tokens": 512} if input.principal.tier == "free"
