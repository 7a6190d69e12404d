import { LRUCache } from "lru-cache";

/** How many are remembered: about 3 MB. */
const REMEMBERED = 10_000;

/**
 * Credentials whose signature was found to be their signer's own, by `credentialKey`: the hash of every byte of them, so that
 * nothing else can be taken for one. What a signature says of a channel never changes; what a contract says of it may, so those
 * of contracts don't belong here.
 */
export class VerifiedCredentials {
	readonly #keys: LRUCache<string, true>;

	/** @param max how many are remembered, the ones longest not asked for forgotten first */
	constructor(max = REMEMBERED) {
		this.#keys = new LRUCache({ max });
	}

	has(credentialKey: string): boolean {
		return this.#keys.get(credentialKey) === true;
	}

	add(credentialKey: string): void {
		this.#keys.set(credentialKey, true);
	}
}
