/**
 * How far one side of a stream is ahead of the other, counted where what passes between them can be seen.
 *
 * Each thing is counted twice: when it has left its sender and when the other side has it, and of the two the one that
 * counts is the one that is worse for whoever could be owed:
 *
 * - unpaid is what has left the server less what vouchers pay for that have reached it;
 * - prepaid is what vouchers pay for that have left the client less what has reached it.
 *
 * So nothing that is under way makes a lead look smaller than either side can see it.
 */
export class Lead {
	readonly #unitPrice: bigint;
	#unitsLeft = 0n;
	#unitsArrived = 0n;
	#signed = 0n;
	#handedOver = 0n;
	#unpaidUnits = 0n;
	#prepaidUnits = 0n;

	/** @param unitPrice in base units */
	constructor(unitPrice: bigint) {
		this.#unitPrice = unitPrice;
	}

	/** A unit is on its way from the server. */
	unitLeft(): void {
		this.#unitsLeft++;
		this.#look();
	}

	/** Units have reached the client. */
	unitsArrived(units: number): void {
		this.#unitsArrived += BigInt(units);
	}

	/** A voucher is on its way from the client; base units. */
	voucherLeft(cumulativeAmount: bigint): void {
		if (cumulativeAmount > this.#signed) this.#signed = cumulativeAmount;
		this.#look();
	}

	/** A voucher has reached the server; base units. */
	voucherArrived(cumulativeAmount: bigint): void {
		if (cumulativeAmount > this.#handedOver) this.#handedOver = cumulativeAmount;
	}

	/** All units that the client has got. */
	get delivered(): number {
		return Number(this.#unitsArrived);
	}

	/** The most units that the client ever had, or was about to have, beyond what it had paid for. */
	get maxUnpaidUnits(): number {
		return Number(this.#unpaidUnits);
	}

	/** The most units that the client ever had signed for beyond what it had got. */
	get maxPrepaidUnits(): number {
		return Number(this.#prepaidUnits);
	}

	#look(): void {
		const unpaid = this.#unitsLeft - this.#handedOver / this.#unitPrice;
		const prepaid = this.#ceil(this.#signed) - this.#unitsArrived;
		if (unpaid > this.#unpaidUnits) this.#unpaidUnits = unpaid;
		if (prepaid > this.#prepaidUnits) this.#prepaidUnits = prepaid;
	}

	#ceil(amount: bigint): bigint {
		return (amount + this.#unitPrice - 1n) / this.#unitPrice;
	}
}
