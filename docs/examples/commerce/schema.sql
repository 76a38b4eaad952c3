-- A small shop: what is sold, who buys, what was ordered.
CREATE TABLE product (
  sku VARBINARY(64) NOT NULL,
  description VARBINARY(256) NOT NULL,
  price_cents BIGINT NOT NULL,
  PRIMARY KEY (sku)
) ENGINE = InnoDB;

CREATE TABLE customer (
  customer_id BIGINT NOT NULL AUTO_INCREMENT,
  email VARBINARY(128) NOT NULL,
  PRIMARY KEY (customer_id)
) ENGINE = InnoDB;

CREATE TABLE corder (
  order_id BIGINT NOT NULL AUTO_INCREMENT,
  customer_id BIGINT NOT NULL,
  sku VARBINARY(64) NOT NULL,
  price_cents BIGINT NOT NULL,
  PRIMARY KEY (order_id)
) ENGINE = InnoDB;
