/** Sums of amounts by token: base units of different tokens are never added. */
export class Totals {
	readonly #sums = new Map<string, bigint>();

	add(token: string, amount: bigint): void {
		if (amount > 0n) this.#sums.set(token, (this.#sums.get(token) ?? 0n) + amount);
	}

	/** Decimal strings. */
	toJSON(): Readonly<Record<string, string>> {
		return Object.fromEntries([...this.#sums].map(([token, amount]) => [token, String(amount)]));
	}

	toString(): string {
		if (this.#sums.size === 0) return "nothing";
		return [...this.#sums].map(([token, amount]) => `${amount} of ${token}`).join(", ");
	}
}
