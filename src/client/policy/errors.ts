/** The policy itself is wrong. */
export class PolicyError extends Error {
	override readonly name = "PolicyError";
	readonly code = "POLICY";
	/** Where in the policy. */
	readonly path: readonly (string | number)[];
	constructor(message: string, path: readonly (string | number)[] = []) {
		super(message);
		this.path = path;
	}
}

/** Which rule of a policy refuses. */
export type PolicyRule =
	| "paused"
	| "host"
	| "payee"
	| "chain"
	| "token"
	| "escrow"
	| "category"
	| "price"
	| "limit"
	| "approval"
	| "dryRun"
	| "deposit"
	| "channels"
	| "splits"
	| "signer"
	| "credential"
	| "digest"
	| "preference"
	| "transport";

/** The limit that a spend would have gone over. Amounts in base units. */
export type LimitReached = Readonly<{
	/** Where the policy has it: `host.day`, `total.ever`. */
	name: string;
	/** The host, payee, channel or category that it is about; absent for the total. */
	subject?: string;
	/** The currency's symbol, or `chain id:address` of a token that no currency lists. */
	currency: string;
	/** What is counted by now. */
	current: bigint;
	/** What may be counted. */
	max: bigint;
	/** What was to be signed away. */
	asked: bigint;
	/** Unix milliseconds, when the count begins anew; absent where it never does. */
	resetsAtMs?: number;
}>;

/** The server asked for something that the policy does not allow: nothing was signed. */
export class PolicyRefusedError extends Error {
	override readonly name = "PolicyRefusedError";
	readonly code = "POLICY_REFUSED";
	/** Which rule refused. */
	readonly rule: PolicyRule;
	/** Of the rule `limit`: which one, and what is counted. */
	readonly limit: LimitReached | undefined;
	constructor(rule: PolicyRule, detail: string, limit?: LimitReached) {
		super(`policy: ${detail}`);
		this.rule = rule;
		this.limit = limit;
	}
}
