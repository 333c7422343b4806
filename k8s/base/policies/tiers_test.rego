package nexus.access_test

import data.nexus

asks(tier, tools) := {"principal": {"tier": tier}, "request": {"tools": tools}}

test_free_has_no_tools if nexus.decision.action == "deny" with input as asks("free", ["search"])

test_free_without_tools if nexus.decision.action == "allow" with input as asks("free", [])

test_premium_has_tools if nexus.decision.action == "allow" with input as asks("premium", ["search"])
