/** The model's calls and happenings as transactions. */
import { encodeFunctionData, type Hex, parseAbi } from "viem";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import { paymentChannelEscrowAbi } from "../../src/escrow/generated/escrow.ts";
import { packedSignature, signatureBytes } from "./signing.ts";
import type { Transaction } from "./stage.ts";
import type { Call, Happening, Row } from "./terms.ts";

/** The call as the contract takes it. */
export async function callData(call: Call): Promise<Hex> {
	const abi = paymentChannelEscrowAbi;
	switch (call.kind) {
		case "open": {
			const { kind, payee, token, deposit, salt, authorizedSigner } = call;
			return encodeFunctionData({ abi, functionName: kind, args: [payee, token, deposit, salt, authorizedSigner] });
		}
		case "openWithAuthorization": {
			const { kind, payee, token, deposit, salt, authorizedSigner, from, validAfter, validBefore, nonce } = call;
			const terms = [payee, token, deposit, salt, authorizedSigner] as const;
			const signature = await signatureBytes(call.signature);
			const args = [...terms, from, validAfter, validBefore, nonce, signature] as const;
			return encodeFunctionData({ abi, functionName: kind, args });
		}
		case "openWithPermit2": {
			const { kind, payee, token, deposit, salt, authorizedSigner, from, nonce, deadline } = call;
			const terms = [payee, token, deposit, salt, authorizedSigner] as const;
			const args = [...terms, from, nonce, deadline, await signatureBytes(call.signature)] as const;
			return encodeFunctionData({ abi, functionName: kind, args });
		}
		case "topUp":
			return encodeFunctionData({ abi, functionName: call.kind, args: [call.channelId, call.additionalDeposit] });
		case "topUpWithAuthorization": {
			const { kind, channelId, additionalDeposit, from, topUpSalt, validAfter, validBefore, nonce } = call;
			const signature = await signatureBytes(call.signature);
			const terms = [channelId, additionalDeposit, from, topUpSalt] as const;
			const args = [...terms, validAfter, validBefore, nonce, signature] as const;
			return encodeFunctionData({ abi, functionName: kind, args });
		}
		case "topUpWithPermit2": {
			const { kind, channelId, additionalDeposit, from, nonce, deadline } = call;
			const terms = [channelId, additionalDeposit, from, nonce, deadline] as const;
			return encodeFunctionData({ abi, functionName: kind, args: [...terms, await signatureBytes(call.signature)] });
		}
		case "settle":
		case "close": {
			const args = [call.channelId, call.cumulativeAmount, await signatureBytes(call.signature)] as const;
			return encodeFunctionData({ abi, functionName: call.kind, args });
		}
		case "settleWithAuthorization":
		case "closeWithAuthorization": {
			const { kind, channelId, cumulativeAmount, nonce, deadline } = call;
			const signatures = [await signatureBytes(call.payeeSignature), await signatureBytes(call.signature)] as const;
			const args = [channelId, cumulativeAmount, nonce, deadline, ...signatures] as const;
			return encodeFunctionData({ abi, functionName: kind, args });
		}
		case "requestClose":
		case "withdraw":
			return encodeFunctionData({ abi, functionName: call.kind, args: [call.channelId] });
		case "settleMany":
		case "closeMany": {
			const pack = async (row: Row) => {
				const { channelId, cumulativeAmount } = row;
				return { channelId, cumulativeAmount, ...(await packedSignature(row)) };
			};
			const rows = await Promise.all(call.rows.map(pack));
			return encodeFunctionData({ abi, functionName: call.kind, args: [rows] });
		}
	}
}

const blocklistAbi = parseAbi(["function setBlocked(address account, bool blocked)"]);

export function happeningTransaction(happening: Happening): Transaction {
	const abi = testUsdcAbi;
	const { token: to } = happening;
	switch (happening.kind) {
		case "approve": {
			const { owner: from, spender, amount } = happening;
			return { from, to, data: encodeFunctionData({ abi, functionName: "approve", args: [spender, amount] }) };
		}
		case "transfer": {
			const { from, to: receiver, amount } = happening;
			return { from, to, data: encodeFunctionData({ abi, functionName: "transfer", args: [receiver, amount] }) };
		}
		case "block": {
			const { account, blocked } = happening;
			const data = encodeFunctionData({ abi: blocklistAbi, functionName: "setBlocked", args: [account, blocked] });
			return { from: account, to, data };
		}
	}
}
