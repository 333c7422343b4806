// Nexus is what a plugin of the gateway is written with: it turns the contract's numbers and buffers into a Text to look
// at and a Request to label. A plugin subscribes to a hook by exporting it. It keeps no state between calls: any
// instance may be asked about any piece of any text, and what a hook allocates is gone when it returns.

export { nexus_abi_1, nexus_buffers } from "./buffers";
export { Bytes } from "./bytes";
export { Config, Kind, handleConfigure } from "./config";
export { Channel, Direction, Role, Text, handleText } from "./text";
export { Place, Request, handleRequest } from "./request";
export { ToolCall, handleToolCall } from "./toolcall";
export { End, Usage, handleEnd, handleUsage } from "./usage";
export {
  Fact, HTTPRequest, HTTPResponse, addMetric, count, countIf, http, known, label, log, now, random, setLabel, setModel, setPool, vaultPut,
} from "./host";
