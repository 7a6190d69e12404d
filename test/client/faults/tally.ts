import type { LocalAccount } from "viem";

/** How a request has ended for whoever asked. */
export type Ending =
	/** Answered with what it is for. */
	| "answered"
	/** Refused, and every answer to its payments is known: it can't have cost anything. */
	| "refused"
	/** All else. */
	| "unknown";

type Asked = { readonly intent: "session" | "charge"; price: bigint; ending: Ending | undefined };

/** One price too many was signed. */
export class OverspentError extends Error {
	override readonly name = "OverspentError";
	readonly code = "OVERSPENT";
}

/**
 * Everything that an account signs, beside what it gets for it. At each signature: no more is signed than was delivered, and
 * one price for each request on its way, or whose outcome is unknown.
 */
export class Tally {
	readonly account: LocalAccount;
	/** What is wrong, as far as it was found out. */
	readonly faults: string[] = [];
	/** Most that was ever signed for beside what was delivered, in base units. */
	ahead = 0n;
	readonly #step: bigint;
	readonly #trace: (text: string) => void;
	readonly #asked = new Map<string, Asked>();
	readonly #highest = new Map<string, bigint>();
	readonly #charges = new Map<string, bigint>();
	/** What servers that have lost their store may take for spent without having delivered it. */
	#guessed = 0n;
	/** What requests had signed for on channels of which they were told that they are gone, by their keys. */
	readonly #stranded = new Map<string, bigint>();

	/**
	 * @param step - the server's `minVoucherDelta`: that much of each channel may be paid ahead (D3)
	 * @param trace - hears of each signature
	 */
	constructor(account: LocalAccount, step: bigint, trace: (text: string) => void = () => undefined) {
		this.#step = step;
		this.#trace = trace;
		this.account = {
			...account,
			signTypedData: async (typedData) => {
				const { primaryType, message } = typedData as unknown as {
					primaryType: string;
					message: Record<string, unknown>;
				};
				if (primaryType === "Voucher") this.#voucher(String(message.channelId), message.cumulativeAmount as bigint);
				if (primaryType === "TransferWithAuthorization") this.#charge(String(message.nonce), message.value as bigint);
				return account.signTypedData(typedData);
			},
		};
	}

	/** A request begins. `price` is the most that it may cost. */
	begin(key: string, intent: "session" | "charge", price: bigint): void {
		this.#asked.set(key, { intent, price, ending: undefined });
	}

	/** A request has ended; `price` is what it was delivered for. */
	end(key: string, ending: Ending, price?: bigint): void {
		const asked = this.#asked.get(key);
		if (asked === undefined) throw new Error(`${key} has not begun`);
		asked.ending = ending;
		if (price !== undefined) asked.price = price;
	}

	/** The server has told a request that its channel is no more: it is paid on another one (D10). */
	strand(key: string): void {
		const asked = this.#asked.get(key);
		if (asked?.intent === "session" && asked.ending === undefined) this.#stranded.set(key, asked.price);
	}

	/**
	 * The server has lost its record of a channel: what its vouchers say beyond the next request's price, also what was signed
	 * ahead of what was delivered, counts as spent there from then on (D10).
	 */
	lostRecord(ahead: bigint): void {
		this.#guessed += ahead + this.#step;
	}

	/** A channel is finalized: what its vouchers were worth is known. */
	closed(channelId: string, settled: bigint): void {
		this.#highest.set(channelId, settled);
	}

	/** What was asked for, by key. */
	get keys(): readonly string[] {
		return [...this.#asked.keys()];
	}

	/** The highest amounts that vouchers were signed for, all channels together. */
	get vouchers(): bigint {
		return sum(this.#highest.values());
	}

	get charges(): bigint {
		return sum(this.#charges.values());
	}

	/** What may have been charged, at most. */
	get most(): bigint {
		return this.#due("session") + this.#due("charge");
	}

	#voucher(channelId: string, amount: bigint): void {
		this.#trace(`signs ${channelId.slice(0, 8)} ${amount}`);
		const before = this.#highest.get(channelId) ?? 0n;
		if (amount <= before) return;
		this.#highest.set(channelId, amount);
		const due = this.#due("session");
		const ahead = this.vouchers - this.#due("session", ({ ending }) => ending === "answered");
		if (ahead > this.ahead) this.ahead = ahead;
		const most = due + this.#guessed + sum(this.#stranded.values()) + this.#step * BigInt(this.#highest.size);
		if (this.vouchers > most)
			this.faults.push(
				`vouchers of ${this.vouchers} in all are signed where ${most} may be due: the last from ${before} to ${amount}`,
			);
	}

	#charge(nonce: string, value: bigint): void {
		this.#charges.set(nonce, value);
		const due = this.#due("charge");
		if (this.charges > due) this.faults.push(`charges of ${this.charges} in all are signed where ${due} may be due`);
	}

	#due(intent: Asked["intent"], counts: (asked: Asked) => boolean = ({ ending }) => ending !== "refused"): bigint {
		return sum(
			[...this.#asked.values()].filter((asked) => asked.intent === intent && counts(asked)).map(({ price }) => price),
		);
	}
}

function sum(amounts: Iterable<bigint>): bigint {
	let total = 0n;
	for (const amount of amounts) total += amount;
	return total;
}
