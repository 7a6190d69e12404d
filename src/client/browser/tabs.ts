/** The tabs of one origin that share a wallet, as Web Locks and a BroadcastChannel tell of them. */
import * as z from "zod";
import { bytes32Shape } from "../shapes.ts";
import type { Neighbours } from "../store/holders.ts";
import type { Exclusive } from "../store/rounds.ts";

/** How long one waits for its turn to write. */
const LOCK_WAIT_MS = 30_000;
const LOOK_MS = 200;

const message = z.discriminatedUnion("type", [
	z.strictObject({ type: z.literal("wanted"), holder: z.string(), channelId: bytes32Shape }),
	z.strictObject({ type: z.literal("freed") }),
]);

type Message = z.output<typeof message>;

/** Runs a task while no other tab runs one on the same wallet. */
export function exclusiveByLock(name: string): Exclusive {
	return async (task) =>
		await navigator.locks.request(`sluice wallet ${name}`, { signal: AbortSignal.timeout(LOCK_WAIT_MS) }, task);
}

/** The other tabs. A holder is there as long as its tab has the lock of its name, which ends with the tab, however it ends. */
export function tabsOf(name: string): Neighbours {
	const letGo = new Map<string, () => void>();
	const lockOf = (holder: string): string => `sluice wallet ${name} holder ${holder}`;
	let channel: BroadcastChannel | undefined;
	const tell = (told: Message): void => channel?.postMessage(told);
	return {
		lookMs: LOOK_MS,
		arrive: (holder) => {
			const gone = new Promise<void>((resolve) => letGo.set(holder, resolve));
			// Whatever this tab writes comes after it: locks are given in the order in which a tab asks for them.
			navigator.locks.request(lockOf(holder), () => gone).catch(() => {});
		},
		leave: (holder) => {
			letGo.get(holder)?.();
			letGo.delete(holder);
		},
		isThere: async (holder) => {
			const { held = [], pending = [] } = await navigator.locks.query();
			const wanted = lockOf(holder);
			return [...held, ...pending].some((lock) => lock.name === wanted);
		},
		tellWanted: (holder, wanted) => tell({ type: "wanted", holder, channelId: wanted }),
		tellFreed: () => tell({ type: "freed" }),
		listen: (on) => {
			const own = new BroadcastChannel(`sluice wallet ${name}`);
			channel = own;
			own.onmessage = ({ data }: MessageEvent<unknown>) => {
				const told = message.safeParse(data);
				if (!told.success) return;
				if (told.data.type === "freed") on.freed();
				else on.wanted(told.data.holder, told.data.channelId);
			};
			return () => {
				channel = undefined;
				own.close();
			};
		},
	};
}
