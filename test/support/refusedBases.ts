/** One good credential of each action and type that the drafts have, with what its members hold. */
import type { Challenge } from "../../src/protocol/index.ts";
import { chargeByHash, chargeByPermit2, chargeByTransaction, payOnChain } from "./chargeDrafts.ts";
import { DEPOSIT, type PaidServer, PRICE } from "./paidServer.ts";
import type { Draft, Payer, TestChannel } from "./payer.ts";
import type { Base, Members } from "./refusedInputs.ts";
import {
	merged,
	openByPermit2,
	topUpByAuthorization,
	topUpByHash,
	topUpByPermit2,
	topUpOnChain,
} from "./sessionDrafts.ts";
import type { World } from "./world.ts";

/** Where the bases are sent: the payer has gas and has approved Permit2. `/charge` takes every type. */
export type Stage = Readonly<{ world: World; server: PaidServer; payer: Payer }>;

/** What is refused is refused for what was done to it, not because an authorization has run out. */
const FAR = 2n ** 40n;

const MORE = 500n;

const session = { intent: "session", path: "/session", method: "GET" } as const;
const charge = { intent: "charge", path: "/charge", method: "GET" } as const;

const invalid = "session/invalid-signature" as const;
const voucherMembers = {
	uint128: ["cumulativeAmount"],
	bytes32: ["channelId"],
	signature: [["signature", invalid]],
} as const;
const eip3009 = (at = "") => ({
	address: [`${at}authorization.from`, `${at}authorization.to`],
	uint128: [`${at}authorization.value`],
	uint256: [`${at}authorization.validAfter`, `${at}authorization.validBefore`],
	bytes32: [`${at}authorization.nonce`],
	object: [`${at}authorization`],
	signature: [[`${at}signature`, invalid]] as const,
});
const permit2 = (at = "") => ({
	address: [`${at}authorization.from`, `${at}authorization.permitted.token`],
	uint128: [`${at}authorization.permitted.amount`],
	uint256: [`${at}authorization.nonce`, `${at}authorization.deadline`],
	object: [`${at}authorization`, `${at}authorization.permitted`, `${at}authorization.witness`],
	signature: [[`${at}signature`, invalid]] as const,
});
const openWitness = (at = "") => ({
	address: [`${at}authorization.witness.payee`, `${at}authorization.witness.authorizedSigner`],
	bytes32: [`${at}authorization.witness.salt`],
});
const openMembers = {
	name: [
		["action", "refund"],
		["type", "transaction"],
	],
	uint128: ["cumulativeAmount"],
	bytes32: ["channelId", "salt"],
} as const;
const topUpMembers = { ...openMembers, uint128: ["additionalDeposit"], bytes32: ["channelId"] } as const;
const depositMembers = {
	...voucherMembers,
	name: [
		["action", "settle"],
		["deposit.action", "voucher"],
		["deposit.type", "hash"],
	],
} as const;

/** All the members of several lists. */
function all(...lists: readonly Partial<Members>[]): Members {
	const of = <Kind extends keyof Members>(kind: Kind) => lists.flatMap((list) => [...(list[kind] ?? [])]);
	return {
		name: of("name") as Members["name"],
		uint128: of("uint128") as string[],
		uint256: of("uint256") as string[],
		bytes32: of("bytes32") as string[],
		bytes: of("bytes") as string[],
		address: of("address") as string[],
		object: of("object") as string[],
		signature: of("signature") as NonNullable<Members["signature"]>,
	};
}

/** The bases, on a stage that is built before the first of them is asked for a credential. */
export function basesOn(stage: () => Stage): readonly Base[] {
	const fresh = ({ server, payer } = stage()) => payer.channel(server.payee);
	const open = (challenge: Challenge, channel: TestChannel, amount: bigint) =>
		stage().payer.open(challenge, channel, { deposit: DEPOSIT, amount, authorization: { validBefore: FAR } });
	const openPermit2 = (challenge: Challenge, channel: TestChannel, amount: bigint) =>
		openByPermit2(stage().payer, challenge, channel, { deposit: DEPOSIT, amount, permit: { deadline: FAR } });

	/** A channel that is open, its next voucher paying for one more request each time. */
	const paying = () => {
		let channel: Promise<TestChannel> | undefined;
		let amount = 0n;
		return async (challenge: Challenge) => {
			const { server, payer } = stage();
			channel ??= server.open(payer);
			amount += PRICE;
			return { payer, channel: await channel, voucher: await payer.voucher(challenge, await channel, amount) };
		};
	};
	const [onGet, onHead, toppedUp, toppedUpByPermit2] = [paying(), paying(), paying(), paying()];

	let lasting: Promise<TestChannel> | undefined;
	/** A channel for top-ups alone. */
	const opened = ({ server, payer } = stage()) => {
		lasting ??= server.open(payer);
		return lasting;
	};

	const opens: readonly Base[] = [
		{
			...session,
			title: "session: open by hash",
			members: all(openMembers, { bytes32: ["hash"], signature: [["signature", invalid]] }),
			async make(challenge) {
				const channel = fresh();
				const { payer } = stage();
				return payer.openByHash(challenge, channel, await payer.openOnChain(channel, DEPOSIT), PRICE);
			},
		},
		{
			...session,
			title: "session: open by authorization",
			members: all(openMembers, eip3009(), { signature: [["voucherSignature", invalid]] }),
			make: (challenge) => open(challenge, fresh(), PRICE),
		},
		{
			...session,
			title: "session: open by permit2",
			members: all(openMembers, permit2(), openWitness(), { signature: [["voucherSignature", invalid]] }),
			make: (challenge) => openPermit2(challenge, fresh(), PRICE),
		},
	];

	const topUps: readonly Base[] = [
		{
			...session,
			title: "session: topUp by hash",
			members: all(topUpMembers, { bytes32: ["hash"] }),
			async make(challenge) {
				const channel = await opened();
				const { payer } = stage();
				return topUpByHash(payer, challenge, channel, await topUpOnChain(payer, channel, MORE), MORE);
			},
		},
		{
			...session,
			title: "session: topUp by authorization",
			members: all(topUpMembers, eip3009(), { bytes32: ["salt"] }),
			make: async (challenge) => topUpByAuthorization(stage().payer, challenge, await opened(), MORE),
		},
		{
			...session,
			title: "session: topUp by permit2",
			members: all(topUpMembers, permit2(), { bytes32: ["authorization.witness.channelId"] }),
			make: async (challenge) => topUpByPermit2(stage().payer, challenge, await opened(), MORE),
		},
	];

	const mergedOpen =
		(deposit: typeof open) =>
		async (challenge: Challenge): Promise<Draft> => {
			const channel = fresh();
			const voucher = await stage().payer.voucher(challenge, channel, PRICE);
			return merged(voucher, await deposit(challenge, channel, PRICE));
		};

	const vouchers: readonly Base[] = [
		{
			...session,
			title: "session: voucher",
			members: all({ name: [["action", "settle"]] }, voucherMembers),
			make: async (challenge) => (await onGet(challenge)).voucher,
		},
		{
			...session,
			title: "session: voucher on HEAD",
			method: "HEAD",
			members: all({ name: [["action", "settle"]] }, voucherMembers),
			make: async (challenge) => (await onHead(challenge)).voucher,
		},
		{
			...session,
			title: "session: voucher with an open by authorization",
			members: all(depositMembers, eip3009("deposit."), { bytes32: ["deposit.salt"] }),
			make: mergedOpen(open),
		},
		{
			...session,
			title: "session: voucher with an open by permit2",
			members: all(depositMembers, permit2("deposit."), openWitness("deposit."), { bytes32: ["deposit.salt"] }),
			make: mergedOpen(openPermit2),
		},
		{
			...session,
			title: "session: voucher with a topUp by authorization",
			members: all(depositMembers, eip3009("deposit."), { bytes32: ["deposit.salt"] }),
			async make(challenge) {
				const { payer, channel, voucher } = await toppedUp(challenge);
				return merged(voucher, await topUpByAuthorization(payer, challenge, channel, MORE));
			},
		},
		{
			...session,
			title: "session: voucher with a topUp by permit2",
			members: all(depositMembers, permit2("deposit."), { bytes32: ["deposit.authorization.witness.channelId"] }),
			async make(challenge) {
				const { payer, channel, voucher } = await toppedUpByPermit2(challenge);
				return merged(voucher, await topUpByPermit2(payer, challenge, channel, MORE));
			},
		},
		{
			...session,
			title: "session: close",
			members: all({ name: [["action", "withdraw"]] }, voucherMembers),
			async make(challenge) {
				const { server, payer } = stage();
				return payer.close(challenge, await server.open(payer), PRICE);
			},
		},
	];

	const charges: readonly Base[] = [
		{
			...charge,
			title: "charge: authorization",
			members: all({
				name: [["type", "cash"]],
				address: ["from", "to"],
				uint256: ["value", "validAfter", "validBefore"],
				bytes32: ["nonce"],
				signature: [["signature", "verification-failed"]],
			}),
			make: (challenge) => stage().payer.charge(challenge, stage().server.payee, PRICE, { validBefore: FAR }),
		},
		{
			...charge,
			title: "charge: permit2",
			members: all({
				name: [["type", "cash"]],
				address: ["permit.permitted.0.token", "transferDetails.0.to"],
				uint256: ["permit.nonce", "permit.deadline", "permit.permitted.0.amount", "transferDetails.0.requestedAmount"],
				bytes32: ["witness.challengeHash"],
				object: ["permit", "permit.permitted", "permit.permitted.0", "transferDetails", "transferDetails.0", "witness"],
				signature: [["signature", "verification-failed"]],
			}),
			make: (challenge) => chargeByPermit2(stage().world, stage().payer, challenge, { deadline: FAR }),
		},
		{
			...charge,
			title: "charge: transaction",
			members: all({ name: [["type", "cash"]], bytes: ["signature"] }),
			make: (challenge) => chargeByTransaction(stage().world, stage().payer, challenge),
		},
		{
			...charge,
			title: "charge: hash",
			members: all({ name: [["type", "cash"]], bytes32: ["hash"] }),
			async make(challenge) {
				const { world, payer } = stage();
				return chargeByHash(world, payer, challenge, await payOnChain(payer, challenge));
			},
		},
	];

	return [...opens, ...topUps, ...vouchers, ...charges];
}
