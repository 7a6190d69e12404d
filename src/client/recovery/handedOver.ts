import type { HeldChannel, PayerStore } from "../store/store.ts";

/** A store that has been handed a channel which this client held: nobody can take it in between. */
export type HandedStore = Readonly<{
	store: PayerStore;
	/** Gives the channel back unless it was taken. */
	end(): Promise<void>;
}>;

/** The store as it is, but that the first to take this channel by its id gets the hold that there is already. */
export function handedOver(store: PayerStore, held: HeldChannel | undefined): HandedStore {
	let left = held;
	const handed = new Proxy(store, {
		get(target, name) {
			const value: unknown = Reflect.get(target, name, target);
			if (typeof value !== "function") return value;
			if (name !== "takeById") return value.bind(target);
			return async (...args: Parameters<PayerStore["takeById"]>) => {
				if (left?.record.state.channelId !== args[0]) return target.takeById(...args);
				const taken = left;
				left = undefined;
				return taken;
			};
		},
	});
	return {
		store: handed,
		async end() {
			if (left !== undefined) await store.release(left.record.state.channelId, left.fence);
		},
	};
}
