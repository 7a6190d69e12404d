// Generated from the contracts by `npm run build:contracts`. Do not edit.

/** What Sluice asks of a contract account that signs (ERC-1271). */
export const erc1271Abi = [
	{"inputs":[{"name":"hash","type":"bytes32"},{"name":"signature","type":"bytes"}],"name":"isValidSignature","outputs":[{"name":"","type":"bytes4"}],"stateMutability":"view","type":"function"},
] as const;
