import { afterAll } from "vitest";
import { Relay, type RelayOptions } from "./relay.ts";
import type { Stage } from "./stage.ts";
import { type ScriptedServer, scriptedServer } from "./support.ts";

/** Starts servers that are relays, each with its own terms, for the tests of one file; they are stopped after the last one. */
export function relays(stage: () => Stage) {
	const servers: ScriptedServer[] = [];
	afterAll(async () => {
		await Promise.all(servers.map((server) => server.stop()));
	});
	return async (options: RelayOptions = {}): Promise<Readonly<{ relay: Relay; server: ScriptedServer }>> => {
		const relay = new Relay(stage(), options);
		const server = await scriptedServer(relay.script);
		servers.push(server);
		return { relay, server };
	};
}
