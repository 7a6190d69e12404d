/** One token of ERC-3009 and what is paid with it, for the sides of `charge-verify`. */
export const CHAIN_ID = 8453;
export const PAYEE = "0x00000000000000000000000000000000000000A1";
export const TOKEN = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";
export const TOKEN_DOMAIN = { name: "USD Coin", version: "2" };

/** What one charge is, in base units. */
export const AMOUNT = "100";
