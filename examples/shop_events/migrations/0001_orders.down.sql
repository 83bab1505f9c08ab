DELETE FROM partitions.policy WHERE schema_name = 'shop';
DROP TABLE shop.customer_order;
DROP TABLE shop.order_event;
DROP SCHEMA shop;
