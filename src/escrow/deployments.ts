import type { Address, Hex } from "viem";
import * as z from "zod";
import recorded from "../../deploy/deployments.json" with { type: "json" };

const address = z
	.string()
	.regex(/^0x[0-9a-fA-F]{40}$/, "must be an address: 0x and 40 hex digits")
	.transform((text) => text.toLowerCase() as Address);

const deploymentSchema = z.strictObject({
	/** The `PaymentChannelEscrow`. */
	escrow: address,
	/** The Permit2 contract it was made with. */
	permit2: address,
	/** Its grace period, in seconds. */
	closeGracePeriodSeconds: z.number().int().positive(),
	/** The block it was deployed in, and by which transaction; absent where it was found already there. */
	blockNumber: z.number().int().nonnegative().optional(),
	transactionHash: z
		.string()
		.regex(/^0x[0-9a-fA-F]{64}$/, "must be a transaction hash: 0x and 64 hex digits")
		.transform((text) => text.toLowerCase() as Hex)
		.optional(),
});

/** Internal: for options of server and client. */
export const deploymentsSchema = z.record(
	z.string().regex(/^[1-9]\d{0,15}$/, "must be a chain id in decimal digits"),
	deploymentSchema,
);

/** Where the escrow is on one chain, and what it was made with. Addresses are lowercase. */
export type Deployment = Readonly<z.output<typeof deploymentSchema>>;

/** Deployments by chain id, in decimal digits. */
export type Deployments = Readonly<Record<string, Deployment>>;

/** The same as it stands in a file: what `sluice deploy` writes, and what `JSON.parse` makes of it. */
export type DeploymentsInput = Readonly<Record<string, Readonly<z.input<typeof deploymentSchema>>>>;

/** A record of deployments is damaged, or not one. */
export class DeploymentsError extends Error {
	override readonly name = "DeploymentsError";
	readonly code = "DEPLOYMENTS";
}

/**
 * Checks a record of deployments, such as the file that `sluice deploy --record` writes.
 *
 * @throws {DeploymentsError} naming the entry and what is wrong with it
 * @example
 * ```ts
 * const deployments = parseDeployments(JSON.parse(await readFile("deployments.json", "utf8")));
 * const escrow = findDeployment(8453, deployments)?.escrow;
 * ```
 */
export function parseDeployments(value: unknown): Deployments {
	const parsed = deploymentsSchema.safeParse(value);
	if (parsed.success) return parsed.data;
	const [issue] = parsed.error.issues;
	const place = issue === undefined || issue.path.length === 0 ? "" : ` at ${issue.path.join(".")}`;
	throw new DeploymentsError(
		`this is no record of deployments${place}: ${issue?.message ?? "it is invalid"}; restore it, or make it again with \`sluice deploy\``,
	);
}

/** What this release records. Parsed when it is first asked for, so that who names an escrow does not depend on it. */
let ofThisRelease: Deployments | undefined;

/**
 * The escrow of a chain, as this release (`deploy/deployments.json`) or a record of your own has it.
 *
 * @param deployments default: what this release records
 * @returns `undefined` where none is recorded for the chain
 * @throws {DeploymentsError} when this release's record is damaged
 * @example
 * ```ts
 * const deployment = findDeployment(8453);
 * if (deployment === undefined) throw new Error("run `sluice deploy --rpc …` first");
 * ```
 */
export function findDeployment(chainId: number, deployments?: Deployments): Deployment | undefined {
	if (deployments !== undefined) return deployments[String(chainId)];
	ofThisRelease ??= parseDeployments(recorded);
	return ofThisRelease[String(chainId)];
}
