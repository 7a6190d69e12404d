import { afterAll, beforeAll } from "vitest";
import { createWorld, type World } from "./world.ts";

/**
 * The world of a test file (or of one `describe`): made before its first test, stopped after its last one. It is there for
 * hooks and tests, not yet while they are declared.
 *
 * @param prepare What else has to be so before anything starts in it.
 * @example
 * const world = useWorld();
 * let server: PaidServer;
 * beforeEach(async () => {
 * 	server = await world.serve();
 * });
 */
export function useWorld(prepare?: (world: World) => Promise<void>): World {
	let made: World | undefined;
	const world = (): World => {
		if (made === undefined) throw new Error("the world is made before the tests run: use it in hooks and tests only");
		return made;
	};
	beforeAll(async () => {
		made = await createWorld();
		await prepare?.(made);
	});
	afterAll(() => made?.stop());
	return {
		get chain() {
			return world().chain;
		},
		get token() {
			return world().token;
		},
		get escrow() {
			return world().escrow;
		},
		payer: (options) => world().payer(options),
		serve: (options) => world().serve(options),
		serverOptions: (options) => world().serverOptions(options),
		balance: (holder) => world().balance(holder),
		onChain: (channel) => world().onChain(channel),
		settle: (...parts) => world().settle(...parts),
		closeOnChain: (...parts) => world().closeOnChain(...parts),
		stop: () => world().stop(),
	};
}
