import { type Address, createPublicClient, encodeDeployData, getContractAddress, http } from "viem";
import { CANONICAL_PERMIT2 } from "../../deploy/index.ts";
import { rpc } from "../../src/cli/demo/chainControl.ts";
import { until } from "../../src/cli/demo/until.ts";
import { paymentChannelEscrowAbi, paymentChannelEscrowBytecode } from "../../src/escrow/generated/escrow.ts";
import { hasCode } from "../../src/escrow/reads.ts";
import type { Place } from "../lib/stage.ts";

/** A day. */
const GRACE_SECONDS = 86_400;

/**
 * The same place with an escrow of another grace period. Every eighth part of it each channel that is sold on is read from the chain
 * by itself, whatever the escrow's events say (D2), and the channels of this bench are on no chain: so nothing is to be read for
 * as long as the bench takes. What that reading costs is not measured here.
 */
export async function withLongGrace(place: Place): Promise<Place> {
	const client = createPublicClient({ transport: http(place.rpcUrl), cacheTime: 0 });
	const [from] = (await rpc(client, "eth_accounts", [])) as readonly Address[];
	if (from === undefined) throw new Error("the node has no account of its own");
	const args = [BigInt(GRACE_SECONDS), CANONICAL_PERMIT2] as const;
	const data = encodeDeployData({ abi: paymentChannelEscrowAbi, bytecode: paymentChannelEscrowBytecode, args });
	const nonce = BigInt(await client.getTransactionCount({ address: from }));
	await rpc(client, "eth_sendTransaction", [{ from, to: null, data }]);
	const escrow = getContractAddress({ from, nonce }).toLowerCase() as Address;
	await until("the escrow is there", () => hasCode(client, escrow));
	return { ...place, escrow };
}
