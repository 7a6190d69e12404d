/** What has to be on chain: the escrow as this release knows it, Permit2, the token. */
import { type Address, BaseError, type PublicClient, toHex } from "viem";
import { readDeployments } from "../../../deploy/index.ts";
import {
	type EscrowFacts,
	EscrowUnusableError,
	findDeployment,
	findTokenDomain,
	hasCode,
	parseDeployments,
	readBalance,
	readEscrow,
	TokenUnusableError,
} from "../../escrow/index.ts";
import { createVoucherDomain } from "../../voucher/index.ts";
import { describeFailure } from "../shared/failure.ts";
import { type Check, fail, ok, skip, warn } from "./check.ts";

export type ChainParts = Readonly<{ client: PublicClient; chainId: number }>;

/** Code, grace period, domain and profile of the escrow. `facts` are absent where it can't be used. */
export async function escrowChecks(
	{ client, chainId }: ChainParts,
	escrow: Address,
): Promise<Readonly<{ checks: readonly Check[]; facts?: EscrowFacts }>> {
	try {
		const facts = await readEscrow(client, escrow, chainId);
		const { closeGraceSeconds, domainSeparator, relayedPayee, relayed } = facts;
		const isOurs = toHex(createVoucherDomain(chainId, escrow).separator) === domainSeparator;
		return {
			facts,
			checks: [
				ok("escrow", `there is an escrow at ${escrow}`),
				ok("grace period", `a payer can withdraw ${closeGraceSeconds} s after it asked to close`, {
					closeGraceSeconds,
				}),
				isOurs
					? ok("voucher domain", "vouchers of this release are good there")
					: fail(
							"voucher domain",
							"the escrow takes vouchers of another EIP-712 domain",
							"use the release it was made with",
						),
				relayedPayee && relayed.authorization && relayed.permit2
					? ok("relayed profile", "deposits, settlements and closes can be sent by others")
					: warn(
							"relayed profile",
							`${relayedPayee ? "some deposits" : "settlements and closes"} can be sent by nobody else`,
							relayedPayee ? "payers may have to send deposits themselves" : "the payee itself has to pay the gas",
						),
				await permit2Check(client, facts.permit2),
			],
		};
	} catch (error) {
		return { checks: [broken("escrow", error, "deploy it by `sluice deploy`, or fix --escrow and --rpc")] };
	}
}

async function permit2Check(client: PublicClient, permit2: Address): Promise<Check> {
	if (await hasCode(client, permit2)) return ok("Permit2", `at ${permit2}`);
	return warn(
		"Permit2",
		`there is none at ${permit2}`,
		"deposits and charges by Permit2 work once it is deployed there",
	);
}

/** Whether what this release, or a file, records for the chain is the escrow that is meant. */
export async function recordCheck(
	chainId: number,
	escrow: Address | undefined,
	file: string | undefined,
): Promise<Check> {
	const name = "deployments record";
	const place = file ?? "this release's deployments.json";
	try {
		const recorded = findDeployment(
			chainId,
			file === undefined ? undefined : parseDeployments(await readDeployments(file)),
		);
		if (recorded === undefined) {
			const hint = "give the escrow's address to server and clients, or record it by `sluice deploy`";
			return warn(name, `${place} has no escrow for chain ${chainId}`, hint);
		}
		if (escrow === undefined || recorded.escrow === escrow) return ok(name, `${recorded.escrow} for chain ${chainId}`);
		const hint = "make sure that server and clients mean the same escrow";
		return warn(name, `${place} has another one, ${recorded.escrow}`, hint);
	} catch (error) {
		return broken(name, error, "restore it");
	}
}

/** Whether the token is an ERC-20 token, and whether it moves by signatures (ERC-3009). */
export async function tokenChecks(
	{ client, chainId }: ChainParts,
	token: Address,
	holder: Address,
): Promise<readonly Check[]> {
	const name = `token ${token}`;
	try {
		if (!(await hasCode(client, token))) {
			return [fail(name, `there is no contract on chain ${chainId}`, "fix its address")];
		}
		await readBalance(client, token, holder);
	} catch (error) {
		return [broken(name, error, "it does not answer as an ERC-20 token: fix its address")];
	}
	try {
		const domain = await findTokenDomain(client, token, chainId);
		if (domain !== undefined)
			return [ok(name, `ERC-3009: ${JSON.stringify(domain.name)}, version ${JSON.stringify(domain.version)}`)];
		return [ok(name, "a plain ERC-20 token: deposits by Permit2 or by the payer's own transaction")];
	} catch (error) {
		if (error instanceof TokenUnusableError) {
			return [warn(name, error.message, "give the server the token's name and version (option token)")];
		}
		return [broken(name, error, "try again")];
	}
}

function broken(name: string, error: unknown, hint: string): Check {
	if (error instanceof EscrowUnusableError) return fail(name, error.message, hint);
	const { message } = error instanceof BaseError ? { message: error.shortMessage } : describeFailure(error, []);
	return fail(name, message, hint);
}

export function withoutChain(names: readonly string[]): readonly Check[] {
	return names.map((name) => skip(name, "no RPC answers"));
}
